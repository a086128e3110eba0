"""Writes what the onnx package says of every operator: `schemas.py FILE`, one version a line.

    Clip 13 input:T min:T? max:T? | output:T |
    Flatten 13-20 input:T | output:T | axis=int:1

name, first opset, inputs with their type (`?` may be left out, `*` any number), outputs, and the
names of attributes with their defaults.
"""

import sys

from onnx import AttributeProto, defs, helper

from cases import HISTORY, versions

DOMAINS = ("", "ai.onnx.ml")
SUFFIX = {
    defs.OpSchema.FormalParameterOption.Single: "",
    defs.OpSchema.FormalParameterOption.Optional: "?",
    defs.OpSchema.FormalParameterOption.Variadic: "*",
}


def values(schema, parameters):
    types = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    words = []
    for parameter in parameters:
        kind = parameter.type_str
        only = types.get(kind, [kind])
        # A variable that stands for one type is that type; a type that is no tensor is unknown.
        if len(only) == 1:
            text = only[0]
            kind = text[7:-1] if text.startswith("tensor(") else "?"
        words.append(f"{parameter.name}:{kind}{SUFFIX[parameter.option]}")
    return " ".join(words)


def attribute(name, described):
    default = described.default_value
    if default.type == AttributeProto.UNDEFINED:
        return name
    value = helper.get_attribute_value(default)
    if isinstance(value, int):
        return f"{name}=int:{value}"
    if isinstance(value, float):
        return f"{name}=float:{value:.9g}"
    if isinstance(value, bytes):
        text = value.decode()
        assert text == "".join(text.split()), text
        return f"{name}=text:{text}"
    if default.type == AttributeProto.INTS:
        return f"{name}=ints:{','.join(map(str, value))}"
    return f"{name}=list:"


def lines():
    for domain, operator in sorted(HISTORY):
        if domain not in DOMAINS:
            continue
        for schema, last in versions(domain, operator):
            name = f"{domain}.{operator}" if domain else operator
            attributes = " ".join(attribute(*item) for item in sorted(schema.attributes.items()))
            inputs, outputs = values(schema, schema.inputs), values(schema, schema.outputs)
            yield f"{name} {schema.since_version}-{last} {inputs} | {outputs} | {attributes}".replace("  ", " ").rstrip()


def main():
    with open(sys.argv[1], "w") as file:
        file.writelines(f"{line}\n" for line in lines())


if __name__ == "__main__":
    main()
