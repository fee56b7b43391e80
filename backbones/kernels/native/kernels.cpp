// The kernels for one instruction set; compiled once for each, with BACKBENCH_SET naming it.
#include "conv.h"
#include "scan_backward.h"
#include "scan_forward.h"

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
#define JOIN_OF(a, b) a##b
#define JOIN(a, b) JOIN_OF(a, b)

extern const Kernels JOIN(backbench_, BACKBENCH_SET);
const Kernels JOIN(backbench_, BACKBENCH_SET) = {TEXT(BACKBENCH_SET), scan_forward, scan_backward, conv_forward,
                                                 conv_backward};
