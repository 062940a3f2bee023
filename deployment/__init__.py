"""Export, quantisation, trimming, and the parity reports that gate them."""
