/** Services of Windows that drive disk controllers, and those for the processor, by the names they have in every release. */

/** redeploy list 1: in the box of some Windows, and able to start it. Many are installed but do not start at boot where their controller was not there. */
export const IN_BOX_STORAGE_SERVICES = [
  'storahci',
  'msahci',
  'stornvme',
  'pciide',
  'intelide',
  'atapi',
  'iaStorV',
  'iaStorAVC',
  'vmd',
  'LSI_SAS',
  'LSI_SAS2',
  'LSI_SAS3',
  'megasas',
  'percsas2i',
  'percsas3i',
  'nvraid',
  'vhdmp',
] as const;

/** Drivers that people add; shown when they are there. */
export const ADDED_STORAGE_SERVICES = [
  'viostor',
  'vioscsi',
  'pvscsi',
  'LSI_SCSI',
  'symmpi',
  'megasas2',
  'megasr',
] as const;

export const PROCESSOR_SERVICES = { intel: ['intelppm'], amd: ['amdppm', 'amdk8'] } as const;

/** Device setup classes of controllers, as their registry keys are called. */
export const SCSI_ADAPTER_CLASS = '{4d36e97b-e325-11ce-bfc1-08002be10318}';
export const HDC_CLASS = '{4d36e96a-e325-11ce-bfc1-08002be10318}';
