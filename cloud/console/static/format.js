// Numbers and times as people read them. Missing values are a dash, negative ones have a true minus sign.

const MINUS = "−";
const MISSING = "—";

/** `value` with fixed decimals; `signed` puts a + before positive values. */
export function number(value, decimals, signed = false) {
  if (value === null || value === undefined || Number.isNaN(value)) return MISSING;
  const text = Math.abs(value).toFixed(decimals);
  const zero = Number(text) === 0;
  if (value < 0 && !zero) return MINUS + text;
  return signed && !zero ? "+" + text : text;
}

export function kilowatts(power_w, signed = false) {
  return number(power_w === null || power_w === undefined ? null : power_w / 1000, 2, signed);
}

/** The unit that suits a range up to `magnitude_w`: {name, watts, decimals}. */
export function powerUnit(magnitude_w) {
  return magnitude_w >= 1e6 ? { name: "MW", watts: 1e6, decimals: 3 } : { name: "kW", watts: 1e3, decimals: 2 };
}

/** HH:MM:SS, UTC. */
export function clock(utc_ms) {
  return new Date(utc_ms).toISOString().slice(11, 19);
}

/** An age in a few characters: 0.4 s, 12 s, 3 min, 5 h, 2 d. */
export function age(age_ms) {
  if (age_ms === null || age_ms === undefined) return MISSING;
  const s = Math.max(0, age_ms) / 1000;
  if (s < 9.95) return s.toFixed(1) + " s";
  if (s < 100) return Math.round(s) + " s";
  if (s < 6000) return Math.round(s / 60) + " min";
  if (s < 172800) return Math.round(s / 3600) + " h";
  return Math.round(s / 86400) + " d";
}
