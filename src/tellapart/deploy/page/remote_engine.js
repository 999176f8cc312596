"use strict";
// Answers from the server that this page came from.

/** Resolves to a function: file → answer. */
async function openEngine(model) {
  const coverage = model.set ? `&coverage=${model.set.coverage}` : "";
  const address = `v1/predict?top=5${coverage}`;

  return async function classify(file) {
    for (;;) {
      const headers = { "Content-Type": "application/octet-stream" };
      const response = await fetch(address, { method: "POST", headers, body: file }).catch(() => {
        throw new Error("The server does not answer.");
      });
      if (response.status === 429) {
        await new Promise((proceed) => setTimeout(proceed, 1000));
        continue;
      }
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.error);
      // A class called "7" would come first in an object, whatever its probability.
      answer.labels = Object.entries(answer.labels).sort((a, b) => b[1] - a[1]);
      return answer;
    }
  };
}
