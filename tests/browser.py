"""A headless Chromium without a network, spoken to by its DevTools protocol: what the tests of pages look through."""

import json
import re
import shutil
import subprocess

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    *("--remote-debugging-port=0", "--remote-allow-origins=*", "--host-resolver-rules=MAP * ~NOTFOUND"),
)
READY = """(async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  return document.querySelectorAll("mjx-merror").length;
})()"""


class Browser:
    """One page of a headless Chromium, spoken to by its DevTools protocol."""

    def __init__(self, profile):
        websocket = pytest.importorskip("websocket")
        command = [CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        lines = iter(self.process.stderr.readline, "")
        address = next(found[0] for line in lines if (found := re.search(r"ws://\S+", line)))
        self.socket, self.number, self.session = websocket.create_connection(address, timeout=300), 0, None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Network", "Log", "Page"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **params):
        """Send a command; its result, with the events that came before it in ``self.events``."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        self.socket.send(json.dumps(message | ({"sessionId": self.session} if self.session else {})))
        self.events = []
        while (answer := json.loads(self.socket.recv())).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def run(self, script):
        """The value of a script on the page."""
        answer = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def resize(self, width):
        """Look at the page through a window of another width."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False
        )

    def open(self, page):
        """Formulas in error when the page is ready, and what went wrong on the way."""
        self.ask("Page.navigate", url=page.as_uri())
        events = list(self.events)
        while not any(event.get("method") == "Page.loadEventFired" for event in events):
            events.append(json.loads(self.socket.recv()))
        errors = self.run(READY)
        return errors, [text for event in events + self.events if (text := complaint(event))]

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(timeout=30)


def complaint(event):
    """What is wrong with an event, if anything."""
    method, params = event.get("method"), event.get("params", {})
    if method == "Runtime.exceptionThrown":
        details = params["exceptionDetails"]
        return f"script error: {details.get('exception', {}).get('description', details['text'])}"
    if method == "Log.entryAdded" and params["entry"]["level"] == "error":
        return f"{params['entry']['text']} {params['entry'].get('url', '')}"
    if method == "Network.requestWillBeSent" and not re.match(
        r"file:|data:|blob:|about:", params["request"]["url"]
    ):
        return f"request to the network: {params['request']['url']}"
    return None
