"""ringwatch: live reduction of powder-diffraction frames."""

__version__ = "0.1.0"
