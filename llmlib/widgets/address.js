// Values that an address or a kernel may have set to anything, brought to what a figure can show.

/** Any value as a whole number from `least` to `most`. */
export const clamp = (value, least, most) => Math.max(least, Math.min(Math.round(Number(value)) || least, most));

/** Any value as a number from `least` to `most`; what is no number is `otherwise`. */
export function within(value, least, most, otherwise) {
  const number = typeof value === "number" ? value : Number.NaN;
  return Number.isFinite(number) ? Math.max(least, Math.min(number, most)) : otherwise;
}
