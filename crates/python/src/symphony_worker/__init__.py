"""The process in which the server runs Python models. The server starts it and speaks to it by the
socket that is its standard input; tensors lie in memory that both have mapped.

It needs Python 3.9 and numpy. Of torch it knows what a model asks for.

- `guard`: the process above it, which ends everything that scripts started.
- `channel`: messages. The server asks, and this process answers each question once.
- `memory`: where inputs and outputs lie. `tensors`: their types, and checks of what scripts return.
- `model`: a loaded model; `torch_module` and `triton_model` are kinds of its own.
- `triton_utils`: the module that models written for Triton import.
- `modules`: each model's own modules. `errors`: what became of a script, in a few lines.
- `server`: the loop that has all of it.
"""
