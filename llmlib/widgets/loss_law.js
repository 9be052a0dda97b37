// The loss law in the page, as llmlib.scaling has it in Python: L(N, D) = E + A / N^alpha + B / D^beta.

/** Nats per token of N parameters trained on D tokens. */
export function lawLoss({ E, A, B, alpha, beta }, N, D) {
  return E + A / N ** alpha + B / D ** beta;
}

/** All of a budget C = 6ND on models of N parameters. */
export function isoflop(law, N, flops) {
  const D = flops / 6 / N;
  return { N, D, loss: lawLoss(law, N, D) };
}

/** The compute-optimal choice: alpha A / N^alpha = beta B / D^beta on the line C = 6ND. */
export function bestAt(law, flops) {
  const { A, B, alpha, beta } = law;
  const G = ((alpha * A) / (beta * B)) ** (1 / (alpha + beta));
  const N = G * (flops / 6) ** (beta / (alpha + beta));
  return isoflop(law, N, flops);
}

/** Tokens after which N parameters have this loss; Infinity if the model is too small ever to have it. */
export function tokensToReach(law, loss, N) {
  const left = loss - law.E - law.A / N ** law.alpha;
  return left <= 0 ? Infinity : (law.B / left) ** (1 / law.beta);
}

/** The least training compute for this loss. */
export function flopsToReach(law, loss) {
  const power = (law.alpha * law.beta) / (law.alpha + law.beta);
  const one = bestAt(law, 6);
  return 6 * ((one.loss - law.E) / (loss - law.E)) ** (1 / power);
}

/** The curve of one loss: [[N, D], …] from where the model is just large enough, N up to `mostN`. */
export function isoloss(law, loss, mostN, count = 60) {
  const least = (law.A / (loss - law.E)) ** (1 / law.alpha);
  const points = [];
  for (let i = 0; i <= count; i += 1) {
    // closer together near the corner, where the curve bends
    const N = least * (1 + 1e-6) * (mostN / least) ** ((i / count) ** 2);
    points.push([N, tokensToReach(law, loss, N)]);
  }
  return points.filter(([N, D]) => N <= mostN * 1.000001 && Number.isFinite(D));
}

/** Days and kilowatt-hours of `flops` on one device at this share (per cent) of its peak. */
export function costOf(flops, { flops_per_second }, percent, watts) {
  const seconds = flops / (flops_per_second * (percent / 100));
  return { days: seconds / 86400, kWh: (watts * seconds) / 3.6e6 };
}
