"""A window that continues a text, stops when told to, and stays awake meanwhile.

    pip install neort
    python app.py [BUNDLE]

tkinter comes with Python, or in a package of its own, such as Debian's python3-tk.
"""

from __future__ import annotations

import queue
import sys
import tkinter as tk
from tkinter import ttk
from tkinter.scrolledtext import ScrolledText

from writer import Writer

EVERY = 30  # milliseconds between two looks for what the writer has


class Window:
    """Shows what a writer writes. All of it runs in the thread of the main loop, the only one that tkinter allows."""

    def __init__(self, root: tk.Tk, writer: Writer) -> None:
        self.root, self.writer, self.ready = root, writer, False
        root.title("neort")
        self.text = ScrolledText(root, wrap="word", width=72, height=20, font=("TkDefaultFont", 11))
        self.text.insert("1.0", "It was a dark night and")
        self.text.pack(fill="both", expand=True, padx=8, pady=8)
        bar = ttk.Frame(root)
        bar.pack(fill="x", padx=8, pady=(0, 8))
        self.go_on = ttk.Button(bar, text="Continue", command=self.write, state="disabled")
        self.stop = ttk.Button(bar, text="Stop", command=writer.stop, state="disabled")
        self.status = ttk.Label(bar, text="loading the model", wraplength=380)
        for widget in (self.go_on, self.stop, self.status):
            widget.pack(side="left", padx=(0, 8))
        root.after(EVERY, self.look)

    def write(self) -> None:
        """Have the writer go on after the last word."""
        self.show(writing=True, status="writing")
        self.writer.write(self.text.get("1.0", "end-1c"))

    def look(self) -> None:
        """Take what has happened since the last look, and look again later."""
        while True:
            try:
                kind, words = self.writer.events.get_nowait()
            except queue.Empty:
                break
            if kind == "piece":
                self.text.insert("end-1c", words)
                self.text.see("end")
                continue
            self.ready |= kind == "ready"
            self.show(writing=False, status=words)
        self.root.after(EVERY, self.look)

    def show(self, *, writing: bool, status: str) -> None:
        """Let only those buttons be pressed that have something to do."""
        self.go_on["state"] = "normal" if self.ready and not writing else "disabled"
        self.stop["state"] = "normal" if writing else "disabled"
        self.status["text"] = status


def main(bundle: str | None = None) -> None:
    """Show the window until it is closed, which may be in the middle of a text, or before there is a model."""
    root, writer = tk.Tk(), Writer(bundle)
    Window(root, writer)
    writer.start()
    try:
        root.mainloop()
    finally:
        writer.close()
        writer.join()


if __name__ == "__main__":
    main(*sys.argv[1:2])
