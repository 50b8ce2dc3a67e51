"""SunSpec: the models as data, their registers as values, and what a device's map holds. No I/O but `discovery`."""
