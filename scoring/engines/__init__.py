"""Engines behind `scoring.engine.Engine`, and the parts that they share."""
