import type { Catalogue } from './entry.ts';

export const libvirtErrors = {} as const satisfies Catalogue;
