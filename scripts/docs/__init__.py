"""Extensions of the documentation site: links, comments of attributes, and the state diagram."""
