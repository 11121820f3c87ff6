/**
 * Every error a person can see, by code. One file per room keeps the texts beside their subject; this one joins them, so
 * that a code that is thrown but not explained is a compile error.
 */
import { engineErrors } from './catalogue/engine.ts';
import { generalErrors } from './catalogue/general.ts';
import { guestErrors } from './catalogue/guest.ts';
import { hostErrors } from './catalogue/host.ts';
import { hypervisorErrors } from './catalogue/hypervisor.ts';
import { layoutErrors } from './catalogue/layout.ts';
import { libvirtErrors } from './catalogue/libvirt.ts';
import { nbdErrors } from './catalogue/nbd.ts';
import { orchestrationErrors } from './catalogue/orchestration.ts';
import { repositoryErrors } from './catalogue/repository.ts';
import { runtimeErrors } from './catalogue/runtime.ts';

export const catalogue = {
  ...generalErrors,
  ...nbdErrors,
  ...libvirtErrors,
  ...repositoryErrors,
  ...hostErrors,
  ...guestErrors,
  ...hypervisorErrors,
  ...engineErrors,
  ...layoutErrors,
  ...orchestrationErrors,
  ...runtimeErrors,
};

export type ErrorCode = keyof typeof catalogue;
export type { CatalogueEntry } from './catalogue/entry.ts';
