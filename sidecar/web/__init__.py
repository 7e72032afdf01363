"""The only modules that let in: routes, authentication, pages."""
