import { runTool } from '@lifeboat/host/children';
import type { Unpackers } from '../linux/compression.ts';

const UNPACK_TIMEOUT_MS = 60_000;
/** xz takes as much memory as the file's header asks for; 64 MiB is the dictionary of its highest preset. */
const XZ_MEMORY_LIMIT = '--memlimit-decompress=256MiB';

/** xz and lz4 by the host's tools: in a process of their own, with limits on time, memory and output. */
export function systemUnpackers(signal: AbortSignal): Unpackers {
  return {
    async unpack(tool, packed, maxBytes) {
      const args = tool === 'xz' ? ['--decompress', '--stdout', XZ_MEMORY_LIMIT] : ['-d', '-c'];
      const result = await runTool(tool, args, {
        stdin: packed,
        timeoutMs: UNPACK_TIMEOUT_MS,
        maxOutputBytes: maxBytes,
        signal,
      });
      return result.stdoutBytes;
    },
  };
}
