"""A sample arrives: what to watch, what is ingested, what it means for one series (models, forecast, detect, breach),
what is known and told, what is learned, and the tick that goes through it. Folders import downwards only."""
