"use strict";
// From logits and features to an answer: what deploy/predictor.py and evaluation/open_set.py do.

const logAddExp = (a, b) => {
  const most = Math.max(a, b);
  return most === -Infinity ? most : most + Math.log1p(Math.exp(-Math.abs(a - b)));
};
const logSumExp = (values) => values.reduce(logAddExp, -Infinity);

/** Logits of several versions of one picture, averaged: as they are, or so that their probabilities are averaged. */
function averageLogits(versions, { multilabel, tta_mean }) {
  const n = versions.length;
  const share = Math.log(1 / n);
  if (tta_mean === "logits") {
    return versions[0].map((_, i) => versions.reduce((sum, logits) => sum + logits[i] / n, 0));
  }
  if (multilabel) {
    return versions[0].map((_, i) => {
      const yes = logSumExp(versions.map((logits) => share - logAddExp(0, -logits[i])));
      return yes - logSumExp(versions.map((logits) => share - logAddExp(0, logits[i])));
    });
  }
  const sums = versions.map(logSumExp);
  return versions[0].map((_, i) => logSumExp(versions.map((logits, k) => share + logits[i] - sums[k])));
}

/** Calibrated probabilities: softmax or sigmoid of logits / temperature. */
function probabilitiesOf(logits, { multilabel, temperature }) {
  const scaled = logits.map((logit, i) => logit / (Array.isArray(temperature) ? temperature[i] : temperature));
  if (multilabel) return scaled.map((z) => Math.exp(-logAddExp(0, -z)));
  const whole = logSumExp(scaled);
  return scaled.map((z) => Math.exp(z - whole));
}

/** Mahalanobis distance of features to the nearest known class / √n_features. */
function distanceToKnown(features, { means, basis, spread, rest }) {
  const d = features.length;
  const length = Math.sqrt(features.reduce((sum, value) => sum + value * value, 0));
  const x = features.map((value) => (length > 1e-12 && Number.isFinite(length) ? Math.fround(value / length) : 0));
  const k = spread.length;
  let nearest = Infinity;
  for (let start = 0; start < means.length; start += d) {
    const along = new Float64Array(k);
    let whole = 0;
    for (let i = 0; i < d; i++) {
      const difference = x[i] - means[start + i];
      whole += difference * difference;
      for (let j = 0; j < k; j++) along[j] += difference * basis[i * k + j];
    }
    let inside = 0;
    let own = 0;
    along.forEach((value, j) => {
      inside += value * value;
      own += (value * value) / spread[j];
    });
    nearest = Math.min(nearest, own + Math.max(0, whole - inside) / rest[0]);
  }
  return Math.sqrt(Math.max(0, nearest) / d);
}

/** The answer to one picture, in the form of `Answer.to_dict()`. */
function answerOf(logits, distance, model) {
  const p = probabilitiesOf(logits, model);
  const order = p.map((_, i) => i).sort((a, b) => p[b] - p[a] || a - b);
  const chosen = model.multilabel ? order.filter((i) => p[i] >= model.thresholds[i]) : order.slice(0, 1);
  const answer = {
    chosen: chosen.map((i) => model.classes[i]),
    labels: order.map((i) => [model.classes[i], p[i]]),
    certainty: chosen.length ? p[chosen[chosen.length - 1]] : 1 - p[order[0]],
    candidates: [],
    ood_score: null,
    unknown: null,
  };
  if (model.set) answer.candidates = order.filter((i, rank) => !rank || p[i] >= model.set.threshold).map((i) => model.classes[i]);
  const known = model.ood_score;
  if (known && distance !== null) {
    const far = (distance - known.distance[0]) / known.distance[1];
    answer.ood_score = far + (1 - p[order[0]] - known.doubt[0]) / known.doubt[1];
    if (known.by_default && answer.ood_score > known.limit) {
      answer.chosen = [];
      answer.unknown = `It is unlike all classes: ${share(known.share)} of pictures of known classes are less unusual.`;
    }
  }
  return answer;
}

/** A probability for people, never rounded up to a certainty of 100 %. */
function share(probability) {
  if (probability < 0.001) return "< 0.1 %";
  const digits = probability < 0.01 || probability >= 0.99 ? 1 : 0;
  return `${(Math.min(probability, 0.999) * 100).toFixed(digits)} %`;
}
