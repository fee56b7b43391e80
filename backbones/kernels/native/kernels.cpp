// The kernels for the instruction set BACKBENCH_SET. This file is compiled once for each set.
#include "conv.h"
#include "diagonal.h"
#include "program_run.h"
#include "scan_backward.h"
#include "scan_forward.h"

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
#define JOIN_OF(a, b) a##b
#define JOIN(a, b) JOIN_OF(a, b)

extern const Kernels JOIN(backbench_, BACKBENCH_SET);
const Kernels JOIN(backbench_, BACKBENCH_SET) = {TEXT(BACKBENCH_SET), scan_forward, scan_backward, conv_forward,
                                                 conv_backward, diagonal_forward, diagonal_backward, run_program};
