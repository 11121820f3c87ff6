/** Requests as commands and the demo submit them. */
import type { Random } from '@lifeboat/foundation/random';

/** A fresh request id: what is submitted with it runs once. */
export function newRequestId(random: Random): string {
  return Buffer.from(random.bytes(8)).toString('hex');
}
