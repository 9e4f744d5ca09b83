"""The tests of an audit, a module each; `tandem.audit.table` lists them."""
