"""What callers should know of definitions: computed once each, since it takes the tokenizer."""

import anyio.to_thread
from cachetools import LRUCache

from app.engine import Engine
from mcm.advice import Advice, advise
from mcm.definition import Definition
from mcm.prompts import distinct_prompts

REMEMBERED = 256  # definitions


class Advisor:
    """Advice on definitions under the engine's encoder."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: LRUCache[Definition, tuple[Advice, ...]] = LRUCache(REMEMBERED)

    def known(self, definition: Definition) -> tuple[Advice, ...] | None:
        """The advice on a definition, if it was asked for lately."""
        return self._known.get(definition)

    async def advice(self, definition: Definition) -> tuple[Advice, ...]:
        """Duplicates and cut prompts of a definition.

        Raises:
            EngineError: its prompts found no place in the engine.
        """
        if (known := self.known(definition)) is not None:
            return known
        cut = await self.cut_prompts(definition)
        found = tuple(
            await anyio.to_thread.run_sync(advise, definition, lambda texts: [t in cut for t in texts])
        )
        self._known[definition] = found
        return found

    async def cut_prompts(self, definition: Definition) -> set[str]:
        """The prompts of a definition whose end the encoder ignores.

        Raises:
            EngineError: as above.
        """
        prompts = distinct_prompts(definition)
        flags = await self._engine.truncated(prompts)
        return {prompt for prompt, cut in zip(prompts, flags, strict=True) if cut}
