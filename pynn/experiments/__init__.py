"""The questions Q2–Q7 as experiments: each module has a frozen `Config`, `Config.quick()` and `run(config, …)`."""

from pynn.experiments import q2, q3, q4, q5, q6, q7

__all__ = ["QUESTIONS"]

QUESTIONS = {"q2": q2, "q3": q3, "q4": q4, "q5": q5, "q6": q6, "q7": q7}
