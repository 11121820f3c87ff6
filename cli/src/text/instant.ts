/** `2026-11-24 00:23:42 UTC`: one form everywhere, and never a guess at the reader's time zone. */
export function formatInstant(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}
