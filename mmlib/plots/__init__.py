"""Every figure of the book: one function each, returning what it drew on."""
