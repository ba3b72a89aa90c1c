"""Profiles of hypothesis: `make fuzz` tries more and other examples than a run of the tests, for as long as asked."""

from hypothesis import HealthCheck, settings

settings.register_profile("fuzz", max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
