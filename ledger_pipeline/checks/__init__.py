"""Great Expectations suites, one per canonical record, built from its declaration. Imported inside functions: the library takes seconds."""
