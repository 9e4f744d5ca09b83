"""The HTTP interface: `tandem serve`. Its packages (fastapi, uvicorn) come with `pip install 'tandem-clip[serve]'`."""
