/** Where an S3 repository lies, and the client that speaks to it. */
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';

export interface S3Place {
  readonly bucket: string;
  /** In front of every object's name; empty or ends in `/`. */
  readonly prefix: string;
  /** URL of the service; without it, AWS's own for the region. */
  readonly endpoint?: string | undefined;
  readonly region: string;
  /** Bucket in the path (`https://host/bucket/key`) instead of in the host's name: what most services beside AWS want. */
  readonly pathStyle: boolean;
}

/** An endpoint that is not there is noticed in this time; a handshake over a satellite takes 2 s. */
const CONNECT_LIMIT_MS = 10_000;
/** No byte in this time: the connection is dead. */
const IDLE_LIMIT_MS = 60_000;
/** From request to the first byte of the answer: a pack of 128 MiB at 2 Mbit/s. */
const ANSWER_LIMIT_MS = 600_000;
/** Reads in flight (16), lanes that upload, and listings, with room to spare. */
const MAX_CONNECTIONS = 64;

/**
 * Credentials come from the usual chain: environment, shared configuration and profiles, web identity, container, instance.
 * The client repeats nothing by itself: `s3-calls.ts` does, because after a put it matters whether the first attempt arrived.
 */
export function s3Client(
  place: S3Place,
  options: { readonly fresh?: boolean; readonly config?: Pick<S3ClientConfig, 'credentials'> } = {},
): S3Client {
  const agent = { keepAlive: options.fresh !== true, maxSockets: MAX_CONNECTIONS };
  const client = new S3Client({
    region: place.region,
    forcePathStyle: place.pathStyle,
    ...(place.endpoint === undefined ? {} : { endpoint: place.endpoint }),
    ...options.config,
    maxAttempts: 1,
    requestHandler: new NodeHttpHandler({
      connectionTimeout: CONNECT_LIMIT_MS,
      socketTimeout: IDLE_LIMIT_MS,
      requestTimeout: ANSWER_LIMIT_MS,
      throwOnRequestTimeout: true,
      httpAgent: agent,
      httpsAgent: agent,
    }),
  });
  // Otherwise the client takes over the service's time once it was told that ours is wrong, and nobody hears of it again.
  Object.defineProperty(client.config, 'systemClockOffset', { get: () => 0, set: () => {} });
  return client;
}

/** For messages: `s3://bucket/prefix at http://host:9000`. */
export function describePlace(place: S3Place): string {
  const service = place.endpoint ?? `AWS ${place.region}`;
  return `s3://${place.bucket}/${place.prefix} at ${service}`;
}
