"""The references in `docs/reference`, made from the settings, the OpenAPI document and the metrics' registry."""
