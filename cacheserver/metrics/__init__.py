"""Prometheus metrics: one table says what exists, one meter counts it, collectors show it."""

from cacheserver.metrics.collectors import VolumeGauges
from cacheserver.metrics.meter import PrometheusMeter
from cacheserver.metrics.options import SubnetOptions
from cacheserver.metrics.table import METRICS, PREFIX, MetricDoc

__all__ = ["METRICS", "PREFIX", "MetricDoc", "PrometheusMeter", "SubnetOptions", "VolumeGauges"]
