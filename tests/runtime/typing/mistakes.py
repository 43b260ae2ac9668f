"""What a user gets wrong: mypy must find the fault of every line that says so, and no other."""

from __future__ import annotations

import neort

model = neort.load()
model.generate("Once", temperture=0.7)  # expected: call-overload
model.generate("Once", max_new_tokens="4")  # expected: call-overload
model.stream("Once", max_tokens=4)  # expected: call-arg
first = model.generate(["Once"]).text  # expected: attr-defined
both = model.generate("Once", num_return_sequences=2).text  # expected: attr-defined
neort.GenerationConfig(overflow="shift")  # expected: arg-type
neort.GenerationConfig(temperture=0.7)  # expected: call-arg
options: neort.GenerationOptions = {"max_token": 4}  # expected: typeddict-unknown-key
model.stream("Once", num_return_sequences=2)  # expected: call-arg
neort.GenerationConfig().replace(top_q=0.9)  # expected: call-arg
neort.load(kv_cache="int4")  # expected: arg-type
neort.load(threads=1)  # expected: call-arg
