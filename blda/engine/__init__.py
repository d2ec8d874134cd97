"""The loop around any method: trainer, checkpoint, evaluator, metrics, inference and the run's log; it knows neither
methods nor statistics.

It may import `data`.
"""
