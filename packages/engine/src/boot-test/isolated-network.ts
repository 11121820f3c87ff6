/** A boot test's network, from outside: its capture, and the ports of the guest. */
import { copyFile, readFile } from 'node:fs/promises';
import { LifeboatError, systemCode } from '@lifeboat/foundation/errors';
import { readPackets, type NetworkFindings } from './packets.ts';

/**
 * What was captured so far. Errors: `engine.capture-unusable` where nobody can tell what the guest sent, `engine.not-isolated` where something
 * outside answered it; neither says anything about the point.
 */
export async function captured(capturePath: string): Promise<NetworkFindings> {
  const found = readPackets(await readIfThere(capturePath));
  if (found === undefined) {
    throw new LifeboatError('engine.capture-unusable', `${capturePath} does not hold the packets of the guest`, {
      context: { path: capturePath },
    });
  }
  if (found.answers.length > 0) {
    throw new LifeboatError(
      'engine.not-isolated',
      `the guest was answered from outside its isolated network: ${found.answers.join(', ')}; the packets are in ${capturePath}`,
      { context: { path: capturePath } },
    );
  }
  return found;
}

/** Into the evidence, as it is at the end. */
export async function keepCapture(capturePath: string, evidencePath: string): Promise<void> {
  try {
    await copyFile(capturePath, evidencePath);
  } catch (error) {
    // QEMU did not get as far as making it.
    if (systemCode(error) !== 'ENOENT') throw error;
  }
}

/** Without a packet QEMU may have written nothing yet, not even the header. */
async function readIfThere(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return Buffer.alloc(0);
    throw error;
  }
}
