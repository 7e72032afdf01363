"""A webhook arrives: policy, guard, approval, action, verification."""
