"""The API: a module a group of endpoints, each with the bodies that it takes and its router."""
