"""Parts of the integrations of web frameworks that need no framework: documents, commands, access, the live page."""
