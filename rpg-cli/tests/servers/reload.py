"""A worker extension for vLLM on CPUs, where the output layer keeps a packed copy of tied embeddings when weights are reloaded.

Started with PYTHONPATH=FOLDER_OF_THIS_FILE ... --worker-extension-cls reload.Reload, it is the method `rpg_reload`.
On GPUs `reload_weights` alone is right.
"""

from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm


class Reload:
    def rpg_reload(self, weights_path):
        self.model_runner.reload_weights(weights_path=weights_path)
        model = self.model_runner.get_model()
        if model.lm_head is not model.model.embed_tokens:
            model.lm_head.weight = model.model.embed_tokens.weight
            dispatch_cpu_unquantized_gemm(model.lm_head, remove_weight=False)
        return {"weights_path": weights_path}
