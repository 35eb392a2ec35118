"""Text -> graph as a service: what is asked, answered, measured and shown. Knows no cluster."""
