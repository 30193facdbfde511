"""The dry run behind :meth:`Engine.plan <ignite_core.engine.Engine.plan>`, and the calendar that it returns."""
