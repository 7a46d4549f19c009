"""The HTTP interface of the gateway: views, schemas and pages."""
