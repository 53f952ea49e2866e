"""The platform: what one `platform.yaml` declares, and the drivers that make it run.

`spec` is the file, typed; `loading` reads it with the line of every error; `placement` refuses what cannot keep its
promise; `plan` tells what each loss would cost; `topology` gives every part its address. `local` runs it all on one
machine.
"""
