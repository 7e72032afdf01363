"""A sample arrives: watches, series, frame, models, engine, snapshot, exposition."""
