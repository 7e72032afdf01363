"""Accuracy against named peers on the data folder: `make quality DATA=folder`."""
