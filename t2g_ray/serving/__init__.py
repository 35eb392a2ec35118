"""Text -> graph as a service: requests, answers, figures and pages. It knows of no cluster."""
