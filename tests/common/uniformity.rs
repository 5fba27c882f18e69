//! Whether every barrier and every subgroup operation of a compute shader stands in uniform control
//! flow: WGSL demands it, and naga lets it pass.
//!
//! WGSL's uniformity analysis, made coarser so that it stays short. It may refuse a shader that WGSL
//! allows, never the other way round: a variable that is once given a non-uniform value, or is
//! stored to in non-uniform control flow, counts as non-uniform from its first line to its last; a
//! loop that some invocations may leave or continue earlier than others is non-uniform throughout;
//! and a variable whose address a function is given is non-uniform.

use std::collections::{BTreeSet, HashMap, HashSet};

use naga::{
    AddressSpace, Binding, Block, BuiltIn, Expression, Function, GlobalVariable, Handle,
    LocalVariable, Module, Statement, StorageAccess,
};

/// A line for each barrier or subgroup operation that some invocations of a workgroup may reach without the others.
pub fn violations(module: &Module) -> Vec<String> {
    let mut found = BTreeSet::new();
    for entry in &module.entry_points {
        let uniform_builtin = |binding: &Option<Binding>| {
            use BuiltIn::{NumWorkGroups, WorkGroupId, WorkGroupSize};
            matches!(binding, Some(Binding::BuiltIn(WorkGroupId | NumWorkGroups | WorkGroupSize)))
        };
        let arguments = entry.function.arguments.iter();
        let arguments = arguments.map(|argument| uniform_builtin(&argument.binding)).collect();
        let mut analysis = Analysis { module, found: BTreeSet::new() };
        analysis.call(&entry.name, &entry.function, arguments, true);
        found.extend(analysis.found);
    }
    found.into_iter().collect()
}

struct Analysis<'a> {
    module: &'a Module,
    found: BTreeSet<String>,
}

/// A call of a function.
struct Frame<'a> {
    name: &'a str,
    function: &'a Function,
    /// Which arguments are uniform.
    arguments: Vec<bool>,
    varying_locals: HashSet<Handle<LocalVariable>>,
    /// What the calls that it makes return: uniform or not.
    results: HashMap<Handle<Expression>, bool>,
    /// Whether what it returns itself is uniform.
    returns_uniform: bool,
}

/// Whether some invocations may have left a block before its end, without the others.
#[derive(Clone, Copy, Default)]
struct Left {
    /// By return.
    function: bool,
    /// By continue.
    iteration: bool,
    /// By break.
    loop_or_switch: bool,
}

impl Left {
    fn any(self) -> bool {
        self.function || self.iteration || self.loop_or_switch
    }

    fn or(self, other: Self) -> Self {
        Self {
            function: self.function || other.function,
            iteration: self.iteration || other.iteration,
            loop_or_switch: self.loop_or_switch || other.loop_or_switch,
        }
    }
}

impl<'a> Analysis<'a> {
    /// Follows a call, made in uniform control flow or not; whether its result is uniform.
    fn call(
        &mut self,
        name: &'a str,
        function: &'a Function,
        arguments: Vec<bool>,
        flow: bool,
    ) -> bool {
        let mut frame = Frame {
            name,
            function,
            arguments,
            varying_locals: HashSet::new(),
            results: HashMap::new(),
            returns_uniform: true,
        };
        // Until no further variable turns out to be non-uniform.
        let mut known = usize::MAX;
        while known != frame.varying_locals.len() {
            known = frame.varying_locals.len();
            self.block(&mut frame, &function.body, flow);
        }
        frame.returns_uniform
    }

    fn block(&mut self, frame: &mut Frame<'a>, block: &'a Block, mut flow: bool) -> Left {
        let mut left = Left::default();
        for statement in block {
            left = left.or(self.statement(frame, statement, flow));
            flow &= !left.any();
        }
        left
    }

    fn statement(&mut self, frame: &mut Frame<'a>, statement: &'a Statement, flow: bool) -> Left {
        match statement {
            Statement::Emit(_) => Left::default(),
            Statement::ControlBarrier(_) | Statement::MemoryBarrier(_) => {
                self.expect_uniform(frame, flow)
            }
            Statement::WorkGroupUniformLoad { .. } => self.expect_uniform(frame, flow),
            // Uniform in a subgroup would do, but not what they return for a workgroup.
            Statement::SubgroupBallot { .. }
            | Statement::SubgroupGather { .. }
            | Statement::SubgroupCollectiveOperation { .. } => self.expect_uniform(frame, flow),
            Statement::Store { pointer, value } => {
                let uniform =
                    flow && self.is_uniform(frame, *pointer) && self.is_uniform(frame, *value);
                if !uniform {
                    mark_varying(frame, *pointer);
                }
                Left::default()
            }
            Statement::Atomic { .. } => Left::default(),
            Statement::Call { function, arguments, result } => {
                let uniform = arguments
                    .iter()
                    .map(|argument| self.is_uniform_argument(frame, *argument))
                    .collect();
                let function = &self.module.functions[*function];
                let name = function.name.as_deref().unwrap_or("a function");
                let uniform = self.call(name, function, uniform, flow);
                frame.results.extend(result.map(|result| (result, uniform)));
                Left::default()
            }
            Statement::Block(block) => self.block(frame, block, flow),
            Statement::If { condition, accept, reject } => {
                let flow = flow && self.is_uniform(frame, *condition);
                let accepted = self.block(frame, accept, flow);
                accepted.or(self.block(frame, reject, flow))
            }
            Statement::Switch { selector, cases } => {
                let flow = flow && self.is_uniform(frame, *selector);
                let left = cases
                    .iter()
                    .map(|case| self.block(frame, &case.body, flow))
                    .fold(Left::default(), Left::or);
                Left { loop_or_switch: false, ..left }
            }
            Statement::Loop { body, continuing, break_if } => {
                let mut once = |flow| {
                    let left = self.block(frame, body, flow);
                    let left = left.or(self.block(frame, continuing, flow && !left.any()));
                    let ends_apart = break_if.is_some_and(|end| !self.is_uniform(frame, end));
                    Left { loop_or_switch: left.loop_or_switch || ends_apart, ..left }
                };
                let mut left = once(flow);
                if left.any() {
                    left = left.or(once(false));
                }
                Left { function: left.function, ..Left::default() }
            }
            Statement::Break => Left { loop_or_switch: !flow, ..Left::default() },
            Statement::Continue => Left { iteration: !flow, ..Left::default() },
            Statement::Return { value } => {
                frame.returns_uniform &=
                    flow && value.is_none_or(|value| self.is_uniform(frame, value));
                Left { function: !flow, ..Left::default() }
            }
            // naga itself wants all invocations at these.
            Statement::CooperativeStore { .. } => Left::default(),
            other => panic!("a statement that this analysis does not know: {other:?}"),
        }
    }

    fn expect_uniform(&mut self, frame: &Frame<'_>, flow: bool) -> Left {
        if !flow {
            self.found.insert(format!(
                "a barrier or a subgroup operation in `{}` stands in non-uniform control flow",
                frame.name
            ));
        }
        Left::default()
    }

    /// Whether all invocations of a workgroup that evaluate the expression get the same value. Of a
    /// pointer: whether they get the same pointer.
    fn is_uniform(&self, frame: &Frame<'_>, expression: Handle<Expression>) -> bool {
        use Expression as E;
        let uniform = |expression: &Handle<Expression>| self.is_uniform(frame, *expression);
        match &frame.function.expressions[expression] {
            E::Literal(_)
            | E::Constant(_)
            | E::Override(_)
            | E::ZeroValue(_)
            | E::GlobalVariable(_)
            | E::LocalVariable(_)
            | E::ArrayLength(_)
            | E::WorkGroupUniformLoadResult { .. } => true,
            E::FunctionArgument(index) => frame.arguments[*index as usize],
            E::CallResult(_) => frame.results.get(&expression).copied().unwrap_or(true),
            E::Load { pointer } => uniform(pointer) && self.holds_uniform(frame, *pointer),
            E::Access { base, index } => uniform(base) && uniform(index),
            E::AccessIndex { base, .. } => uniform(base),
            E::Splat { value, .. } => uniform(value),
            E::Swizzle { vector, .. } => uniform(vector),
            E::Compose { components, .. } => components.iter().all(uniform),
            E::Unary { expr, .. } | E::As { expr, .. } => uniform(expr),
            E::Relational { argument, .. } => uniform(argument),
            E::Binary { left, right, .. } => uniform(left) && uniform(right),
            E::Select { condition, accept, reject } => {
                uniform(condition) && uniform(accept) && uniform(reject)
            }
            E::Math { arg, arg1, arg2, arg3, .. } => {
                uniform(arg) && [arg1, arg2, arg3].into_iter().flatten().all(uniform)
            }
            _ => false,
        }
    }

    /// Whether the variable that a pointer leads to holds the same for all invocations.
    fn holds_uniform(&self, frame: &Frame<'_>, pointer: Handle<Expression>) -> bool {
        match variable(frame, pointer) {
            Variable::Global(handle) => match self.module.global_variables[handle].space {
                AddressSpace::Uniform | AddressSpace::Immediate => true,
                AddressSpace::Storage { access } => !access.contains(StorageAccess::STORE),
                _ => false,
            },
            Variable::Local(handle) => !frame.varying_locals.contains(&handle),
            Variable::Unknown => false,
        }
    }

    /// A function may store anything behind a pointer that it is given.
    fn is_uniform_argument(&self, frame: &mut Frame<'_>, argument: Handle<Expression>) -> bool {
        mark_varying(frame, argument);
        let is_pointer = !matches!(variable(frame, argument), Variable::Unknown);
        !is_pointer && self.is_uniform(frame, argument)
    }
}

fn mark_varying(frame: &mut Frame<'_>, pointer: Handle<Expression>) {
    if let Variable::Local(handle) = variable(frame, pointer) {
        frame.varying_locals.insert(handle);
    }
}

enum Variable {
    Global(Handle<GlobalVariable>),
    Local(Handle<LocalVariable>),
    /// No pointer, or one that the function was given.
    Unknown,
}

/// The variable that a pointer leads to.
fn variable(frame: &Frame<'_>, pointer: Handle<Expression>) -> Variable {
    match frame.function.expressions[pointer] {
        Expression::GlobalVariable(handle) => Variable::Global(handle),
        Expression::LocalVariable(handle) => Variable::Local(handle),
        Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => {
            variable(frame, base)
        }
        _ => Variable::Unknown,
    }
}
