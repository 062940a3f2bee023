"""The page in the browser: its files, the models it loads, and onnxruntime-web, which runs them."""
