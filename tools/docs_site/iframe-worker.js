// Search from file://, where browsers refuse workers: the worker's script runs in a hidden frame of the page.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.documentElement.append(frame);
      const inside = frame.contentWindow;
      const add = (source) => new Promise((done, failed) => {
        const script = inside.document.createElement("script");
        Object.assign(script, { src: source, async: false, onload: done, onerror: failed });
        inside.document.body.append(script);
      });
      inside.importScripts = (...sources) => Promise.all(sources.map(add));
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.post = (data) => inside.dispatchEvent(new inside.MessageEvent("message", { data }));
      this.ready = add(new URL(url, location).href);
    }
    postMessage(data) {
      this.ready.then(() => this.post(data));
    }
    terminate() {}
  };
}
