"""A FastAPI service that continues texts, one model for all requests; a client that leaves ends its sequence.

    pip install neort fastapi uvicorn
    uvicorn app:app
    curl --no-buffer 127.0.0.1:8000/continue -H "Content-Type: application/json" -d '{"text": "The captain said"}'

NEORT_BUNDLE names the folder of a bundle; without it the model is the one that comes with neort.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

import neort

MOST_WAITING = 16  # requests without a slot; beyond it clients are told to come again


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model before the first request; without the last name for it, its thread and its memory go."""
    app.state.model = neort.load(os.environ.get("NEORT_BUNDLE"))
    yield
    del app.state.model


app = FastAPI(lifespan=lifespan)


class Request(BaseModel):
    """What a client sends."""

    text: str
    new_tokens: int = Field(default=64, ge=1, le=512)
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)


@app.post("/continue")
async def continue_text(request: Request) -> StreamingResponse:
    """Answer with what follows on the text, as it comes."""
    model: neort.Model = app.state.model
    if model.engine_figures.waiting >= MOST_WAITING:
        raise HTTPException(429, "too many requests wait already; come again", {"Retry-After": "1"})
    options = {"temperature": request.temperature} if request.temperature else {}
    try:  # what is wrong with a request is known before its answer begins
        stream = model.astream(request.text, max_new_tokens=request.new_tokens, do_sample=bool(options), **options)
    except neort.PromptError as error:
        raise HTTPException(422, str(error)) from None
    return StreamingResponse(pieces(stream), media_type="text/plain")


async def pieces(stream: AsyncIterator[neort.Piece]) -> AsyncIterator[str]:
    """The texts of a stream. A client that leaves ends the loop, and the loop's end is that of the sequence."""
    async for piece in stream:
        yield piece.text
