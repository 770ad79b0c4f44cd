// Runs the packed code. The page's policy names the digest of what comes out, so nothing else can be run this way.
import { unpack } from "./unpack.js";

unpack("code").then(
  (bytes) => {
    const script = document.createElement("script");
    script.textContent = new TextDecoder().decode(bytes);
    document.head.append(script);
  },
  (error) => {
    const status = document.getElementById("status");
    if (status) status.textContent = `This browser cannot show the page: ${error}`;
  },
);
