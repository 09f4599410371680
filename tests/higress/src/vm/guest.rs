//! A guest that called its host, seen from there: its memory, and what the host may do with it.

use wasmtime::{Caller, Memory, TypedFunc};

use super::state::VmState;
use crate::abi::{Fault, Hostcall, Status};

pub(crate) struct Guest<'a> {
    caller: Caller<'a, VmState>,
    memory: Memory,
    allocate: TypedFunc<u32, u32>,
}

impl<'a> Guest<'a> {
    /// For all calls of `env` but `proxy_log`.
    pub(crate) fn enter(caller: Caller<'a, VmState>, name: &str) -> Hostcall<Self> {
        if caller.data().starting {
            return Err(Fault::Trap(wasmtime::Error::msg(format!(
                "`{name}` was called while the module was being initialised"
            ))));
        }
        Self::enter_early(caller)
    }

    /// For what may be called while the module is being initialised.
    pub(crate) fn enter_early(mut caller: Caller<'a, VmState>) -> Hostcall<Self> {
        let parts = caller.data().parts().or_else(|| {
            // A start section runs before the host knows the exports.
            let memory = caller.get_export("memory")?.into_memory()?;
            let names = ["malloc", "proxy_on_memory_allocate"];
            let allocate = names.iter().find_map(|name| caller.get_export(name)?.into_func()?.typed(&caller).ok())?;
            Some((memory, allocate))
        });
        let (memory, allocate) = parts.ok_or(Status::InvalidMemoryAccess)?;
        Ok(Guest { caller, memory, allocate })
    }

    pub(crate) fn state(&self) -> &VmState {
        self.caller.data()
    }

    pub(crate) fn state_mut(&mut self) -> &mut VmState {
        self.caller.data_mut()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory.data_size(&self.caller)
    }

    pub(crate) fn read(&self, pointer: u32, size: u32) -> Hostcall<Vec<u8>> {
        let start = pointer as usize;
        let range = start..start + size as usize;
        self.memory.data(&self.caller).get(range).map(<[u8]>::to_vec).ok_or(Fault::Status(Status::InvalidMemoryAccess))
    }

    /// What is not UTF-8 is replaced.
    pub(crate) fn text(&self, pointer: u32, size: u32) -> Hostcall<String> {
        self.read(pointer, size).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) fn write(&mut self, pointer: u32, bytes: &[u8]) -> Hostcall {
        let start = pointer as usize;
        let range = start..start + bytes.len();
        let target = self.memory.data_mut(&mut self.caller).get_mut(range).ok_or(Status::InvalidMemoryAccess)?;
        target.copy_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn write_u32(&mut self, pointer: u32, number: u32) -> Hostcall {
        self.write(pointer, &number.to_le_bytes())
    }

    pub(crate) fn write_u64(&mut self, pointer: u32, number: u64) -> Hostcall {
        self.write(pointer, &number.to_le_bytes())
    }

    /// Hands bytes over in a block that the guest allocates and owns. Nothing is no block at all.
    pub(crate) fn give(&mut self, bytes: &[u8], pointer_out: u32, size_out: u32) -> Hostcall {
        let size = u32::try_from(bytes.len()).map_err(|_| Status::InvalidMemoryAccess)?;
        let pointer = if size == 0 { 0 } else { self.block(bytes, size)? };
        self.write_u32(pointer_out, pointer)?;
        self.write_u32(size_out, size)
    }

    fn block(&mut self, bytes: &[u8], size: u32) -> Hostcall<u32> {
        let effective = self.state_mut().swap_effective(0);
        let allocated = self.allocate.clone().call(&mut self.caller, size).map_err(Fault::Trap);
        self.state_mut().swap_effective(effective);
        let pointer = allocated?;
        if pointer == 0 {
            return Err(Status::InvalidMemoryAccess.into());
        }
        self.write(pointer, bytes)?;
        Ok(pointer)
    }
}
