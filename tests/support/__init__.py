"""Toys, servers and browsers that the tests of several rooms use."""
