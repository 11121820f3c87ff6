/**
 * One gRPC call, DescribeNamespace, by hand over HTTP/2: it succeeds once the server serves *and* the namespace is there,
 * which an open port does not say. This room stays free of the Temporal SDK for the sake of one question.
 *
 *   request   0x00 | length, 4 bytes big-endian | protobuf { 1: namespace }
 *   answer    trailers hold `grpc-status`, 0 for success
 */
import { connect, type IncomingHttpHeaders } from 'node:http2';
import { LifeboatError } from '@lifeboat/foundation/errors';

const PATH = '/temporal.api.workflowservice.v1.WorkflowService/DescribeNamespace';

/** Resolves when the server at `host:port` serves the namespace. Errors: `temporal.unreachable`, with what it said instead. */
export async function askNamespace(
  address: string,
  namespace: string,
  options: { readonly timeoutMs: number },
): Promise<void> {
  const session = connect(`http://${address}`);
  try {
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string, cause?: unknown): void => {
        reject(new LifeboatError('temporal.unreachable', `${address}, namespace ${namespace}: ${why}`, { cause }));
      };
      session.on('error', (error: Error) => fail(error.message, error));
      session.setTimeout(options.timeoutMs, () => fail(`no answer within ${options.timeoutMs} ms`));
      const call = session.request({
        ':method': 'POST',
        ':path': PATH,
        'content-type': 'application/grpc',
        te: 'trailers',
      });
      const judge = (headers: IncomingHttpHeaders): void => {
        const status = text(headers['grpc-status']);
        if (status === '0') resolve();
        else if (status !== '') fail(`grpc-status ${status} ${text(headers['grpc-message'])}`);
      };
      // An error without a body comes with the headers already.
      call.on('response', judge);
      call.on('trailers', judge);
      call.on('error', (error: Error) => fail(error.message, error));
      call.on('close', () => fail('the call ended without a status'));
      call.resume();
      call.end(frame(namespace));
    });
  } finally {
    session.destroy();
  }
}

function text(header: string | string[] | undefined): string {
  return typeof header === 'string' ? header : '';
}

function frame(namespace: string): Buffer {
  const name = Buffer.from(namespace, 'utf8');
  if (name.length > 127) throw new LifeboatError('input.invalid', `namespace '${namespace}' is longer than 127 bytes`);
  const message = Buffer.concat([Buffer.from([0x0a, name.length]), name]);
  const header = Buffer.alloc(5);
  header.writeUInt32BE(message.length, 1);
  return Buffer.concat([header, message]);
}
