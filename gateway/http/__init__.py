"""The HTTP interface of the gateway: views, schemas, pages and problems."""
